output "project" {
  description = "Id of the project."
  value       = var.project
}

output "region" {
  description = "Location of the queues, for DEFERRED_LOCATION."
  value       = var.region
}

output "app_engine_location" {
  description = "App Engine's name for the region."
  value       = local.app_engine_location
}

output "database" {
  description = "Name of the Datastore database. Cloud NDB uses it by default."
  value       = google_firestore_database.this.name
}

output "service_accounts" {
  description = "E-mail address of each App Engine service's account, for service_account in app.yaml."
  value       = { for service, account in module.runtime_account : service => account.email }
}

output "signing_keys_secret" {
  description = "The secret with the signing keys, projects/P/secrets/NAME, for DEFERRED_SIGNING_KEYS_SECRET."
  value       = "projects/${var.project}/secrets/${google_secret_manager_secret.signing_keys.secret_id}"
}

output "queues" {
  description = "Short names of the queues."
  value       = sort(keys(google_cloud_tasks_queue.this))
}

output "sweep_environment" {
  description = "Environment variables that the sweeping service needs. Empty if cron.yaml is the scheduler."
  value = {
    for name, value in {
      DEFERRED_SERVICE_ACCOUNT = local.sweep_account
      DEFERRED_AUDIENCE        = local.sweep_base_url
    } : name => value if var.sweep_scheduler == "cloud-scheduler"
  }
}

output "hostname" {
  description = "Hostname of the app's default service, such as my-project.uc.r.appspot.com."
  value       = google_app_engine_application.this.default_hostname
}

output "delete_protection" {
  description = "Whether a destroy leaves the database."
  value       = var.delete_protection
}
