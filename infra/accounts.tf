module "runtime_account" {
  source   = "./modules/runtime_account"
  for_each = var.services

  project      = var.project
  service      = each.value
  account_id   = local.account_ids[each.value]
  region       = var.region
  queues       = keys(google_cloud_tasks_queue.this)
  secret_id    = google_secret_manager_secret.signing_keys.id
  acts_as_self = contains(var.oidc_services, each.value)
  deployers    = var.deployers

  depends_on = [google_project_service.this]
}
