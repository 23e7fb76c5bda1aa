# A deploy's build runs as App Engine's default account. That account was an Editor of the project in earlier years. Most
# organizations of today forbid this, and then the first deploy in a new project fails: "invalid bucket staging...;
# service account does not have access to the bucket".
locals {
  build_account  = "serviceAccount:${var.project}@appspot.gserviceaccount.com"
  staging_bucket = "projects/_/buckets/staging.${var.project}.appspot.com"
}

# The build reads the app's files from the staging bucket and writes its log there; Cloud Build reads the bucket's
# metadata. The grant is on the project, because the bucket of a new app appears with its first deploy.
resource "google_project_iam_member" "build_staging" {
  # checkov:skip=CKV_GCP_46: the condition limits the grant to one bucket.
  project = var.project
  role    = "roles/storage.admin"
  member  = local.build_account

  condition {
    title      = "Staging bucket of App Engine"
    expression = "resource.name == \"${local.staging_bucket}\" || resource.name.startsWith(\"${local.staging_bucket}/\")"
  }

  depends_on = [google_app_engine_application.this] # App Engine makes the account together with the app
}

resource "google_project_iam_member" "build" {
  # checkov:skip=CKV_GCP_46: two narrow roles replace Editor. Apps run as accounts of their own.
  for_each = toset([
    "roles/artifactregistry.createOnPushWriter", # pushes the image; the first push makes the repository
    "roles/logging.logWriter",
  ])

  project = var.project
  role    = each.value
  member  = local.build_account

  depends_on = [google_app_engine_application.this]
}
