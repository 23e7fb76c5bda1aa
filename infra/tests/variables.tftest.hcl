# Refused values of variables. variables.tf has the messages.

mock_provider "google" {}

variables {
  project = "my-project"
}

run "a_project_number_is_not_a_project_id" {
  command = plan

  variables {
    project = "123456789012"
  }

  expect_failures = [var.project]
}

run "app_engines_name_of_a_region_is_refused" {
  command = plan

  variables {
    region = "us-central"
  }

  expect_failures = [var.region]
}

run "a_project_needs_a_service" {
  command = plan

  variables {
    services = []
  }

  expect_failures = [var.services]
}

run "a_long_service_name_is_refused" {
  command = plan

  variables {
    services = ["default", "a-service-with-a-long-name"]
  }

  expect_failures = [var.services]
}

run "oidc_for_an_unknown_service_is_refused" {
  command = plan

  variables {
    oidc_services = ["worker"]
  }

  expect_failures = [var.oidc_services]
}

run "limits_of_an_unknown_service_are_refused" {
  command = plan

  variables {
    service_access = { worker = {} }
  }

  expect_failures = [var.service_access]
}

run "access_to_an_unknown_queue_is_refused" {
  command = plan

  variables {
    services       = ["default", "worker"]
    service_access = { worker = { queues = ["mails"] } }
  }

  expect_failures = [var.service_access]
}

run "a_service_without_signing_keys_cannot_enqueue" {
  command = plan

  variables {
    services       = ["default", "worker"]
    service_access = { worker = { signing_keys = false } }
  }

  expect_failures = [var.service_access]
}

run "the_sweep_service_cannot_be_limited" {
  command = plan

  variables {
    service_access = { default = { queues = ["default"] } }
  }

  expect_failures = [var.service_access]
}

run "a_deployer_needs_a_type" {
  command = plan

  variables {
    deployers = ["me@example.com"]
  }

  expect_failures = [var.deployers]
}

run "the_queue_default_is_required" {
  command = plan

  variables {
    queues = { mails = {} }
  }

  expect_failures = [var.queues]
}

run "an_underscore_in_a_queue_name_is_refused" {
  command = plan

  variables {
    queues = { default = {}, "my_mails" = {} }
  }

  expect_failures = [var.queues]
}

run "more_than_500_dispatches_a_second_are_refused" {
  command = plan

  variables {
    queues = { default = { max_dispatches_per_second = 501 } }
  }

  expect_failures = [var.queues]
}

run "zero_attempts_are_refused" {
  command = plan

  variables {
    queues = { default = { max_attempts = 0 } }
  }

  expect_failures = [var.queues]
}

run "a_min_backoff_above_the_max_backoff_is_refused" {
  command = plan

  variables {
    queues = { default = { min_backoff_seconds = 10, max_backoff_seconds = 5 } }
  }

  expect_failures = [var.queues]
}

run "zero_doublings_are_refused" {
  command = plan

  variables {
    queues = { default = { max_doublings = 0 } }
  }

  expect_failures = [var.queues]
}

run "a_sampling_ratio_above_one_is_refused" {
  command = plan

  variables {
    queues = { default = { log_sampling_ratio = 2 } }
  }

  expect_failures = [var.queues]
}

run "an_unknown_concurrency_mode_is_refused" {
  command = plan

  variables {
    concurrency_mode = "optimistic"
  }

  expect_failures = [var.concurrency_mode]
}

run "a_missing_index_file_is_refused" {
  command = plan

  variables {
    index_yaml_files = ["nowhere/index.yaml"]
  }

  expect_failures = [var.index_yaml_files]
}

run "a_fractional_generation_is_refused" {
  command = plan

  variables {
    signing_keys_generation = 1.5
  }

  expect_failures = [var.signing_keys_generation]
}

run "an_unknown_scheduler_is_refused" {
  command = plan

  variables {
    sweep_scheduler = "crontab"
  }

  expect_failures = [var.sweep_scheduler]
}

run "an_unknown_sweep_service_is_refused" {
  command = plan

  variables {
    sweep_service = "worker"
  }

  expect_failures = [var.sweep_service]
}

run "a_schedule_in_words_is_refused" {
  command = plan

  variables {
    sweep_schedule = "every minute"
  }

  expect_failures = [var.sweep_schedule]
}

run "an_alert_needs_an_email_address" {
  command = plan

  variables {
    alert_emails = ["on-call"]
  }

  expect_failures = [var.alert_emails]
}

run "a_budget_needs_a_billing_account_id" {
  command = plan

  variables {
    budget = { billing_account = "mine", amount = 5 }
  }

  expect_failures = [var.budget]
}

run "a_budget_below_one_unit_is_refused" {
  command = plan

  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 0.5 }
  }

  expect_failures = [var.budget]
}

run "a_threshold_of_zero_is_refused" {
  command = plan

  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 5, thresholds = [0] }
  }

  expect_failures = [var.budget]
}

run "adopting_an_unknown_kind_is_refused" {
  command = plan

  variables {
    adopt_existing = ["buckets"]
  }

  expect_failures = [var.adopt_existing]
}
