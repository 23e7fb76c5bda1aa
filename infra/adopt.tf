# An App Engine app cannot be deleted, nor can a protected database: after a destroy, or in a project that had them
# before, they are imported. An import of what is in the state already does nothing.

import {
  for_each = contains(var.adopt_existing, "app_engine") ? toset([var.project]) : toset([])

  to = module.app_engine.google_app_engine_application.this
  id = each.value
}

import {
  for_each = contains(var.adopt_existing, "database") ? toset([var.project]) : toset([])

  to = module.datastore.google_firestore_database.this
  id = "projects/${each.value}/databases/(default)"
}

import {
  for_each = contains(var.adopt_existing, "queues") ? toset(keys(var.queues)) : toset([])

  to = module.queues.google_cloud_tasks_queue.this[each.value]
  id = "projects/${var.project}/locations/${var.region}/queues/${each.value}"
}
