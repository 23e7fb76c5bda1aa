output "project" {
  description = "Id of the project."
  value       = var.project
}

output "region" {
  description = "Location of the queues, for DEFERRED_LOCATION."
  value       = var.region
}

output "app_engine_location" {
  description = "The same place as App Engine calls it."
  value       = module.naming.app_engine_location
}

output "database" {
  description = "The Datastore database, which Cloud NDB uses by default."
  value       = module.datastore.name
}

output "service_accounts" {
  description = "E-mail address of the account that each App Engine service runs as: service_account in app.yaml."
  value       = { for service, account in module.runtime_account : service => account.email }
}

output "signing_keys_secret" {
  description = "The secret with the signing keys, projects/P/secrets/NAME, for DEFERRED_SIGNING_KEYS_SECRET."
  value       = "projects/${var.project}/secrets/${module.signing_keys.secret_name}"
}

output "queues" {
  description = "Short names of the queues."
  value       = module.queues.names
}

output "sweep_environment" {
  description = "Environment variables that the service that sweeps needs: none if cron.yaml is the scheduler."
  value       = try(module.sweep[0].environment, {})
}

output "hostname" {
  description = "Where the app's default service is served."
  value       = module.app_engine.default_hostname
}

output "delete_protection" {
  description = "Whether a destroy leaves the database where it is."
  value       = var.delete_protection
}
