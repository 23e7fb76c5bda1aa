locals {
  apis = [
    "appengine.googleapis.com",
    "artifactregistry.googleapis.com", # stores the image that a deploy builds
    "cloudbuild.googleapis.com",       # builds that image
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com", # runs cron.yaml, too
    "cloudtasks.googleapis.com",
    "datastore.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com", # receives the app's files during a deploy
  ]
}

resource "google_project_service" "this" {
  for_each = toset(concat(local.apis, var.budget == null ? [] : ["billingbudgets.googleapis.com"]))

  project = var.project
  service = each.value

  # A destroy leaves the API enabled, because other software in the project may use it.
  disable_on_destroy = false
}
