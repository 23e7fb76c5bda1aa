mock_provider "google" {}

variables {
  project = "my-project"
  queues = {
    default = {}
    mails   = { max_dispatches_per_second = 5, max_attempts = 8, log_sampling_ratio = 0.5 }
  }
}

run "a_queue_has_the_defaults_of_cloud_tasks_unless_changed" {
  command = plan

  assert {
    condition     = google_cloud_tasks_queue.this["mails"].rate_limits[0].max_dispatches_per_second == 5 && google_cloud_tasks_queue.this["default"].rate_limits[0].max_dispatches_per_second == 500
    error_message = "The queues dispatch ${google_cloud_tasks_queue.this["mails"].rate_limits[0].max_dispatches_per_second} and ${google_cloud_tasks_queue.this["default"].rate_limits[0].max_dispatches_per_second} tasks a second."
  }

  assert {
    condition     = google_cloud_tasks_queue.this["mails"].retry_config[0].min_backoff == "0.100s" && google_cloud_tasks_queue.this["mails"].retry_config[0].max_backoff == "3600s"
    error_message = "Cloud Tasks writes these durations as 0.100s and 3600s."
  }

  assert {
    condition     = google_cloud_tasks_queue.this["mails"].stackdriver_logging_config[0].sampling_ratio == 0.5
    error_message = "Cloud Tasks would not log half of the operations."
  }

  assert {
    condition     = length(google_cloud_tasks_queue.this["default"].stackdriver_logging_config) == 0
    error_message = "Cloud Tasks would log operations although nobody asked for it."
  }
}

run "the_lowest_settings_of_a_queue_reach_cloud_tasks" {
  command = plan

  variables {
    queues = {
      default = {
        max_dispatches_per_second  = 0.01
        max_concurrent_dispatches  = 1
        max_attempts               = 1
        max_retry_duration_seconds = 0
        min_backoff_seconds        = 0
        max_backoff_seconds        = 0
        max_doublings              = 1
        log_sampling_ratio         = 0
      }
    }
  }

  assert {
    condition     = google_cloud_tasks_queue.this["default"].retry_config[0].max_retry_duration == "0s" && google_cloud_tasks_queue.this["default"].retry_config[0].min_backoff == "0s" && google_cloud_tasks_queue.this["default"].retry_config[0].max_backoff == "0s"
    error_message = "A duration of zero is a text, which the provider sends: ${jsonencode(google_cloud_tasks_queue.this["default"].retry_config[0])}"
  }

  assert {
    condition     = google_cloud_tasks_queue.this["default"].retry_config[0].max_doublings == 1 && google_cloud_tasks_queue.this["default"].retry_config[0].max_attempts == 1
    error_message = "The retry settings are ${jsonencode(google_cloud_tasks_queue.this["default"].retry_config[0])}."
  }
}

run "deploys_learn_the_names_of_all_queues" {
  command = plan

  assert {
    condition     = join(" ", output.queues) == "default mails"
    error_message = "The queues are ${jsonencode(output.queues)}."
  }
}
