# Imports resources that the project has already: an App Engine app cannot be deleted, and a destroy leaves a protected
# database. Importing a resource that is already in the state changes nothing.

import {
  for_each = contains(var.adopt_existing, "app_engine") ? toset([var.project]) : toset([])

  to = google_app_engine_application.this
  id = each.value
}

import {
  for_each = contains(var.adopt_existing, "database") ? toset([var.project]) : toset([])

  to = google_firestore_database.this
  id = "projects/${each.value}/databases/(default)"
}

import {
  for_each = contains(var.adopt_existing, "queues") ? toset(keys(var.queues)) : toset([])

  to = google_cloud_tasks_queue.this[each.value]
  id = "projects/${var.project}/locations/${var.region}/queues/${each.value}"
}
