locals {
  # Log messages of gae_deferred about tasks that failed for good; a test compares them with the library. App Engine
  # stores a line of standard error as textPayload, google-cloud-logging stores it as jsonPayload.
  dead_letter_messages = [
    "Dead letter [0-9]+: ",
    "No dead letter could be written of ",
    "The task failed for good and will not be tried again",
  ]
  dead_letter_matches = flatten([
    for message in local.dead_letter_messages : ["textPayload=~\"${message}\"", "jsonPayload.message=~\"${message}\""]
  ])
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  project      = var.project
  display_name = "Dead letters: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.this]
}

resource "google_monitoring_alert_policy" "dead_letters" {
  project      = var.project
  display_name = "Dead letters"
  combiner     = "OR"
  severity     = "ERROR"

  conditions {
    display_name = "A task failed for good"

    condition_matched_log {
      filter = "resource.type=\"gae_app\" AND (${join(" OR ", local.dead_letter_matches)})"
    }
  }

  alert_strategy {
    auto_close = "604800s" # 7 days

    notification_rate_limit {
      period = "3600s" # tasks often fail in groups
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      A deferred task failed for good and will not run again by itself. Datastore keeps its call, its exception and its
      payload as an entity of kind `_DeferredDeadLetter`. Fix the cause, then send the task again from there.

      "No dead letter could be written" is worse: only the log has that task.
    EOT
  }

  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  depends_on = [google_project_service.this]
}
