output "app_engine_location" {
  description = "The region as App Engine calls it."
  value       = lookup(local.app_engine_locations, var.region, var.region)
}

output "database_location" {
  description = "Where the database of an App Engine app in the region is."
  value       = lookup(local.database_locations, var.region, var.region)
}

output "account_ids" {
  description = "Id of the account that each service runs as."
  value       = { for service in var.services : service => "deferred-${service}" }
}

output "service_accounts" {
  description = "E-mail address of the account that each service runs as."
  value       = { for service in var.services : service => "deferred-${service}@${var.project}.iam.gserviceaccount.com" }
}

output "signing_keys_secret_id" {
  description = "Short name of the secret with the signing keys."
  value       = "deferred-signing-keys"
}
