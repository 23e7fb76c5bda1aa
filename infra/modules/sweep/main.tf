locals {
  base = "https://${var.service == "default" ? "" : "${var.service}-dot-"}${var.hostname}"
}

# An App Engine target would be simpler, but its requests have no X-Appengine-Cron header, and nobody can add one: the
# app could not tell them from anybody's. A token can be verified.
resource "google_cloud_scheduler_job" "this" {
  project     = var.project
  region      = var.region
  name        = "deferred-sweep"
  description = "Sends tasks of committed transactions that could not be sent at once."
  schedule    = var.schedule
  time_zone   = "Etc/UTC"

  attempt_deadline = "60s" # a sweep begins nothing new after 50 s

  http_target {
    http_method = "POST"
    uri         = "${local.base}/_ah/deferred/sweep"

    oidc_token {
      service_account_email = var.service_account
      audience              = local.base
    }
  }

  retry_config {
    retry_count = 0 # the next minute's is the retry
  }
}
