# Neither App Engine nor Terraform can delete an app: a destroy only forgets it.
resource "google_app_engine_application" "this" {
  project     = var.project
  location_id = var.location

  # database_type is not set: google_firestore_database has made the database before, and only one of the two may.
  lifecycle {
    ignore_changes = [database_type]
  }
}
