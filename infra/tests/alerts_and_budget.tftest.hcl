mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
}

run "dead_letters_are_told_to_everybody_named" {
  module {
    source = "./modules/dead_letter_alert"
  }

  variables {
    project = "my-project"
    emails  = ["a@example.com", "b@example.com"]
  }

  assert {
    condition     = length(google_monitoring_alert_policy.this.notification_channels) == 2
    error_message = "Somebody is not told."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this.conditions[0].condition_matched_log[0].filter, "textPayload=~\"Dead letter [0-9]+: \" OR jsonPayload.message=~\"Dead letter [0-9]+: \"")
    error_message = "The filter is ${google_monitoring_alert_policy.this.conditions[0].condition_matched_log[0].filter}"
  }
}

run "a_budget_is_of_this_project" {
  module {
    source = "./modules/budget"
  }

  variables {
    project         = "my-project"
    billing_account = "012345-6789AB-CDEF01"
    amount          = 50
    currency        = null
    thresholds      = [0.5, 1]
  }

  assert {
    condition     = google_billing_budget.this.budget_filter[0].projects[0] == "projects/1234567890" && length(google_billing_budget.this.threshold_rules) == 2
    error_message = "The budget is of something else."
  }
}

run "there_is_no_budget_unless_asked_for" {
  command = plan

  variables {
    project = "my-project"
  }

  assert {
    condition     = length(module.budget) == 0
    error_message = "A budget needs permissions on the billing account, which not everybody has."
  }
}
