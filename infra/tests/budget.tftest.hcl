mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
}

variables {
  project = "my-project"
}

run "a_budget_covers_this_project_only" {
  variables {
    budget = {
      billing_account = "012345-6789AB-CDEF01"
      amount          = 50
      thresholds      = [0.5, 1]
    }
  }

  assert {
    condition     = google_billing_budget.this[0].budget_filter[0].projects[0] == "projects/1234567890"
    error_message = "The budget covers ${jsonencode(google_billing_budget.this[0].budget_filter[0].projects)}."
  }

  assert {
    condition     = length(google_billing_budget.this[0].threshold_rules) == 2
    error_message = "The budget has ${length(google_billing_budget.this[0].threshold_rules)} thresholds, not 2."
  }
}

run "a_project_has_no_budget_by_default" {
  command = plan

  assert {
    condition     = length(google_billing_budget.this) == 0
    error_message = "A budget needs permissions on the billing account, which many people lack."
  }
}
