resource "google_service_account" "this" {
  project      = var.project
  account_id   = var.account_id
  display_name = "App Engine service ${var.service}"
  description  = "Runs the App Engine service ${var.service}."
}

resource "google_project_iam_member" "this" {
  for_each = toset([
    "roles/datastore.user",    # a project is the smallest thing that this role can be granted on
    "roles/logging.logWriter", # for google-cloud-logging; App Engine logs printed lines without it
  ])

  project = var.project
  role    = each.value
  member  = google_service_account.this.member
}

resource "google_project_iam_member" "task_creator" {
  count = length(var.queues) > 0 ? 1 : 0

  project = var.project
  role    = var.task_role
  member  = google_service_account.this.member
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = var.queues

  project  = var.project
  location = var.region
  name     = each.value
  role     = "roles/cloudtasks.enqueuer"
  member   = google_service_account.this.member
}

resource "google_secret_manager_secret_iam_member" "accessor" {
  count = var.reads_secret ? 1 : 0

  project   = var.project
  secret_id = var.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this.member
}

# Cloud Tasks makes an OIDC token of an account only for callers who may act as that account.
resource "google_service_account_iam_member" "self" {
  count = var.acts_as_self ? 1 : 0

  service_account_id = google_service_account.this.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.this.member
}

resource "google_service_account_iam_member" "deployer" {
  for_each = var.deployers

  service_account_id = google_service_account.this.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}
