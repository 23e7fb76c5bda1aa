resource "google_firestore_database" "this" {
  project     = var.project
  name        = "(default)" # App Engine apps and Cloud NDB use this one
  location_id = local.database_location
  type        = "DATASTORE_MODE"

  # PESSIMISTIC is also Google's default for new databases (Firestore Admin API, Database.ConcurrencyMode).
  concurrency_mode                  = var.concurrency_mode
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  delete_protection_state           = var.delete_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"

  # DELETE on a protected database would make a destroy fail halfway.
  deletion_policy = var.delete_protection ? "ABANDON" : "DELETE"

  # A database that App Engine made in earlier years has another integration mode than one of today. Terraform keeps it.
  lifecycle {
    ignore_changes = [app_engine_integration_mode]
  }

  depends_on = [google_project_service.this]
}

# A TTL policy for each of the library's kinds with a property `expires`. Dead letters have no such property: a person
# deletes them.
resource "google_firestore_field" "expires" {
  for_each = toset(var.ttl_policies ? ["_DeferredPayload", "_DeferredReceipt"] : [])

  project    = var.project
  database   = google_firestore_database.this.name
  collection = each.value
  field      = "expires"

  # index_config must stay unset: Datastore mode refuses changes to single-property indexes.
  ttl_config {}
}
