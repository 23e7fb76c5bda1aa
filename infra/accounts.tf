# Google requires appengine.applications.get from the creator of a task with an App Engine target (Cloud Tasks API,
# AppEngineHttpRequest). The smallest predefined role with it, roles/appengine.appViewer, also shows the environment
# variables of every version.
resource "google_project_iam_custom_role" "task_creator" {
  project     = var.project
  role_id     = "deferredTaskCreator_${random_id.role.hex}"
  title       = "Creator of App Engine tasks"
  description = "Sees that the project has an App Engine app, which is required to create tasks for it."
  permissions = ["appengine.applications.get"]

  depends_on = [google_project_service.this]
}

# Google reserves the id of a deleted role for up to 37 days (the provider's documentation of the resource). With a new
# suffix, an apply after a destroy succeeds.
resource "random_id" "role" {
  byte_length = 4
}

locals {
  service_access = {
    for service in var.services : service => {
      queues = [
        for name in keys(google_cloud_tasks_queue.this) :
        name if try(contains(var.service_access[service].queues, name), true)
      ]
      signing_keys = try(var.service_access[service].signing_keys, true)
    }
  }
}

module "runtime_account" {
  source   = "./modules/runtime_account"
  for_each = var.services

  project      = var.project
  service      = each.value
  account_id   = local.account_ids[each.value]
  region       = var.region
  queues       = local.service_access[each.value].queues
  task_role    = google_project_iam_custom_role.task_creator.name
  secret_id    = google_secret_manager_secret.signing_keys.id
  reads_secret = local.service_access[each.value].signing_keys
  acts_as_self = contains(var.oidc_services, each.value)
  deployers    = var.deployers

  depends_on = [google_project_service.this]
}
