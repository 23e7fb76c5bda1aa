# Values that are refused; what Terraform says then is in variables.tf.

mock_provider "google" {}

variables {
  project = "my-project"
}

run "project_number" {
  command = plan

  variables {
    project = "123456789012"
  }

  expect_failures = [var.project]
}

run "app_engine_name_of_a_region" {
  command = plan

  variables {
    region = "us-central"
  }

  expect_failures = [var.region]
}

run "no_services" {
  command = plan

  variables {
    services = []
  }

  expect_failures = [var.services]
}

run "service_too_long" {
  command = plan

  variables {
    services = ["default", "a-service-with-a-long-name"]
  }

  expect_failures = [var.services]
}

run "oidc_of_an_unknown_service" {
  command = plan

  variables {
    oidc_services = ["worker"]
  }

  expect_failures = [var.oidc_services]
}

run "deployer_without_a_kind" {
  command = plan

  variables {
    deployers = ["me@example.com"]
  }

  expect_failures = [var.deployers]
}

run "queues_without_default" {
  command = plan

  variables {
    queues = { mails = {} }
  }

  expect_failures = [var.queues]
}

run "queue_with_a_bad_name" {
  command = plan

  variables {
    queues = { default = {}, "my_mails" = {} }
  }

  expect_failures = [var.queues]
}

run "queue_too_fast" {
  command = plan

  variables {
    queues = { default = { max_dispatches_per_second = 501 } }
  }

  expect_failures = [var.queues]
}

run "queue_without_attempts" {
  command = plan

  variables {
    queues = { default = { max_attempts = 0 } }
  }

  expect_failures = [var.queues]
}

run "queue_with_crossed_backoffs" {
  command = plan

  variables {
    queues = { default = { min_backoff_seconds = 10, max_backoff_seconds = 5 } }
  }

  expect_failures = [var.queues]
}

run "queue_that_logs_too_much" {
  command = plan

  variables {
    queues = { default = { log_sampling_ratio = 2 } }
  }

  expect_failures = [var.queues]
}

run "index_file_that_is_not_there" {
  command = plan

  variables {
    index_yaml_files = ["nowhere/index.yaml"]
  }

  expect_failures = [var.index_yaml_files]
}

run "half_a_generation" {
  command = plan

  variables {
    signing_keys_generation = 1.5
  }

  expect_failures = [var.signing_keys_generation]
}

run "unknown_scheduler" {
  command = plan

  variables {
    sweep_scheduler = "crontab"
  }

  expect_failures = [var.sweep_scheduler]
}

run "sweep_of_an_unknown_service" {
  command = plan

  variables {
    sweep_service = "worker"
  }

  expect_failures = [var.sweep_service]
}

run "schedule_in_words" {
  command = plan

  variables {
    sweep_schedule = "every minute"
  }

  expect_failures = [var.sweep_schedule]
}

run "alert_to_nobody" {
  command = plan

  variables {
    alert_emails = ["on-call"]
  }

  expect_failures = [var.alert_emails]
}

run "budget_without_an_account" {
  command = plan

  variables {
    budget = { billing_account = "mine", amount = 5 }
  }

  expect_failures = [var.budget]
}

run "budget_of_cents" {
  command = plan

  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 0.5 }
  }

  expect_failures = [var.budget]
}

run "budget_with_a_bad_threshold" {
  command = plan

  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 5, thresholds = [0] }
  }

  expect_failures = [var.budget]
}

run "adoption_of_anything" {
  command = plan

  variables {
    adopt_existing = ["buckets"]
  }

  expect_failures = [var.adopt_existing]
}
