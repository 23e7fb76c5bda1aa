# Google offers no way to delete an App Engine app. A destroy removes it from the state only.
resource "google_app_engine_application" "this" {
  project     = var.project
  location_id = local.app_engine_location

  # Only google_firestore_database sets the type of the database.
  lifecycle {
    ignore_changes = [database_type]
  }

  # Without a database, App Engine makes its own, and Terraform could not make one any more.
  depends_on = [google_project_service.this, google_firestore_database.this]
}
