mock_provider "google" {}

variables {
  project = "my-project"
  queues = {
    default = {}
    mails   = { max_dispatches_per_second = 5, max_attempts = 8, min_backoff_seconds = 10, log_sampling_ratio = 0.5 }
  }
}

run "a_queue_has_the_settings_of_cloud_tasks_unless_told_otherwise" {
  command = plan
  module {
    source = "./modules/queues"
  }

  variables {
    location = "us-central1"
    queues = {
      mails = {
        max_dispatches_per_second  = 5
        max_concurrent_dispatches  = 1000
        max_attempts               = 8
        max_retry_duration_seconds = 0
        min_backoff_seconds        = 0.1
        max_backoff_seconds        = 3600
        max_doublings              = 16
        log_sampling_ratio         = 0.5
      }
    }
  }

  assert {
    condition     = google_cloud_tasks_queue.this["mails"].rate_limits[0].max_dispatches_per_second == 5
    error_message = "The rate is another."
  }

  assert {
    condition     = google_cloud_tasks_queue.this["mails"].retry_config[0].min_backoff == "0.100s" && google_cloud_tasks_queue.this["mails"].retry_config[0].max_backoff == "3600s"
    error_message = "Cloud Tasks writes durations as 0.100s and 3600s."
  }

  assert {
    condition     = google_cloud_tasks_queue.this["mails"].stackdriver_logging_config[0].sampling_ratio == 0.5
    error_message = "Half of the operations are to be logged."
  }
}

run "every_queue_is_told_to_deploys" {
  command = plan

  assert {
    condition     = join(" ", output.queues) == "default mails"
    error_message = "The queues are ${jsonencode(output.queues)}."
  }
}
