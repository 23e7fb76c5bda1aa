mock_provider "google" {}

run "everybody_listed_gets_dead_letter_alerts" {
  variables {
    project      = "my-project"
    alert_emails = ["a@example.com", "b@example.com"]
  }

  assert {
    condition     = length(google_monitoring_alert_policy.dead_letters.notification_channels) == 2
    error_message = "The alert has ${length(google_monitoring_alert_policy.dead_letters.notification_channels)} channels, not 2."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.dead_letters.conditions[0].condition_matched_log[0].filter, "textPayload=~\"Dead letter [0-9]+: \" OR jsonPayload.message=~\"Dead letter [0-9]+: \"")
    error_message = "The filter is ${google_monitoring_alert_policy.dead_letters.conditions[0].condition_matched_log[0].filter}"
  }
}
