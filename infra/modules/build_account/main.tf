# A deploy's build runs as App Engine's default account. Projects used to make that an Editor; organizations of today
# mostly forbid it, and then the first deploy of a new project fails: "invalid bucket staging...; service account does not
# have access to the bucket".
locals {
  member = "serviceAccount:${var.project}@appspot.gserviceaccount.com"
  bucket = "projects/_/buckets/staging.${var.project}.appspot.com"
}

# It reads the source there, and writes its log. Cloud Build looks at the bucket itself, too. The grant is on the project,
# because a new app may not have the bucket yet: the first deploy would make it.
resource "google_project_iam_member" "source" {
  # checkov:skip=CKV_GCP_46: see below; the condition leaves one bucket.
  project = var.project
  role    = "roles/storage.admin"
  member  = local.member

  condition {
    title      = "Staging bucket of App Engine"
    expression = "resource.name == \"${local.bucket}\" || resource.name.startsWith(\"${local.bucket}/\")"
  }
}

resource "google_project_iam_member" "this" {
  # checkov:skip=CKV_GCP_46: a build acts as no other account, and gets two narrow roles in place of Editor. Apps have theirs.
  for_each = toset([
    "roles/artifactregistry.createOnPushWriter", # for the image; the repository is made with the first one
    "roles/logging.logWriter",
  ])

  project = var.project
  role    = each.value
  member  = local.member
}
