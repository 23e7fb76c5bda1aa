locals {
  # What gae_deferred logs; a test compares them. App Engine has a line of standard error as textPayload,
  # google-cloud-logging has it in jsonPayload.
  log_lines = [
    "Dead letter [0-9]+: ",
    "No dead letter could be written of ",
    "The task failed for good and will not be tried again",
  ]
  matches = flatten([
    for line in local.log_lines : ["textPayload=~\"${line}\"", "jsonPayload.message=~\"${line}\""]
  ])
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.emails

  project      = var.project
  display_name = "Dead letters: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
}

resource "google_monitoring_alert_policy" "this" {
  project      = var.project
  display_name = "Dead letters"
  combiner     = "OR"
  severity     = "ERROR"

  conditions {
    display_name = "A task failed for good"

    condition_matched_log {
      filter = "resource.type=\"gae_app\" AND (${join(" OR ", local.matches)})"
    }
  }

  alert_strategy {
    auto_close = "604800s" # 7 days

    notification_rate_limit {
      period = "3600s" # many tasks tend to fail together
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      A deferred task will not run any more by itself. What it was, what it raised and its payload are in Datastore, kind
      `_DeferredDeadLetter`. Once the cause is mended, the task can be sent again from there. The log line that begins
      with "No dead letter could be written" is worse: its task is only in the log.
    EOT
  }

  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
}
