output "environment" {
  description = "Environment variables by which the service that sweeps verifies the token."
  value = {
    DEFERRED_SERVICE_ACCOUNT = var.service_account
    DEFERRED_AUDIENCE        = local.base
  }
}
