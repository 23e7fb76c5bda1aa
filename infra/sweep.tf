locals {
  sweep_subdomain = var.sweep_service == "default" ? "" : "${var.sweep_service}-dot-"
  sweep_base_url  = "https://${local.sweep_subdomain}${google_app_engine_application.this.default_hostname}"
  sweep_account   = module.runtime_account[var.sweep_service].email
}

# The job calls a public URL with an OIDC token, which the app verifies. A request to an App Engine target would carry
# no proof: Cloud Scheduler sends it without X-Appengine-Cron, and that header cannot be added.
resource "google_cloud_scheduler_job" "sweep" {
  count = var.sweep_scheduler == "cloud-scheduler" ? 1 : 0

  project     = var.project
  region      = var.region
  name        = "deferred-sweep"
  description = "Sends the tasks of committed transactions that could not be sent at once."
  schedule    = var.sweep_schedule
  time_zone   = "Etc/UTC"

  attempt_deadline = "60s" # a sweep stops starting new work after 50 s

  http_target {
    http_method = "POST"
    uri         = "${local.sweep_base_url}/_ah/deferred/sweep"

    oidc_token {
      service_account_email = local.sweep_account
      audience              = local.sweep_base_url
    }
  }

  # retry_config stays unset: a failed run is not retried by default, and the next run does its work. The provider does
  # not send a retry_count of 0.
}
