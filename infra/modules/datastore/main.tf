resource "google_firestore_database" "this" {
  project     = var.project
  name        = "(default)" # the one of App Engine apps, and of Cloud NDB
  location_id = var.location
  type        = "DATASTORE_MODE"

  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  delete_protection_state           = var.delete_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"

  # With DELETE, destroying a protected database would fail after half of the rest is gone.
  deletion_policy = var.delete_protection ? "ABANDON" : "DELETE"

  # Concurrency mode and App Engine integration stay as they are: a database that an App Engine app made in earlier
  # years has others than one of today.
  lifecycle {
    ignore_changes = [concurrency_mode, app_engine_integration_mode]
  }
}

resource "google_firestore_index" "this" {
  for_each = var.indexes

  project     = var.project
  database    = google_firestore_database.this.name
  collection  = each.value.kind
  query_scope = each.value.query_scope
  api_scope   = "DATASTORE_MODE_API"

  dynamic "fields" {
    for_each = each.value.properties
    content {
      field_path = fields.value.name
      order      = fields.value.order
    }
  }
}

# There must be no index_config here: Datastore mode refuses to change how single properties are indexed.
resource "google_firestore_field" "expires" {
  for_each = var.ttl_kinds

  project    = var.project
  database   = google_firestore_database.this.name
  collection = each.value
  field      = "expires"

  ttl_config {}
}
