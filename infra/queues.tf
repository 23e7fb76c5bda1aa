locals {
  # Cloud Tasks writes durations as 3600s and 0.100s. Other forms would show a change in every plan.
  queue_durations = {
    for name, queue in var.queues : name => {
      for key, seconds in {
        max_retry_duration = queue.max_retry_duration_seconds
        min_backoff        = queue.min_backoff_seconds
        max_backoff        = queue.max_backoff_seconds
      } : key => format(floor(seconds) == seconds ? "%ds" : "%.3fs", seconds)
    }
  }
}

resource "google_cloud_tasks_queue" "this" {
  for_each = var.queues

  project  = var.project
  location = var.region
  name     = each.key

  rate_limits {
    max_dispatches_per_second = each.value.max_dispatches_per_second
    max_concurrent_dispatches = each.value.max_concurrent_dispatches
  }

  retry_config {
    max_attempts       = each.value.max_attempts
    max_retry_duration = local.queue_durations[each.key].max_retry_duration
    min_backoff        = local.queue_durations[each.key].min_backoff
    max_backoff        = local.queue_durations[each.key].max_backoff
    max_doublings      = each.value.max_doublings
  }

  # The provider does not send a ratio of 0. Without the block, Cloud Tasks logs no operation.
  dynamic "stackdriver_logging_config" {
    for_each = each.value.log_sampling_ratio > 0 ? [each.value.log_sampling_ratio] : []
    content {
      sampling_ratio = stackdriver_logging_config.value
    }
  }

  # The provider's documentation of this resource requires an App Engine app first.
  depends_on = [google_app_engine_application.this]
}
