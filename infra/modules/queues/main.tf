locals {
  # As Cloud Tasks itself writes them, 3600s and 0.100s: other forms would look like a change at every plan.
  durations = {
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
  location = var.location
  name     = each.key

  rate_limits {
    max_dispatches_per_second = each.value.max_dispatches_per_second
    max_concurrent_dispatches = each.value.max_concurrent_dispatches
  }

  retry_config {
    max_attempts       = each.value.max_attempts
    max_retry_duration = local.durations[each.key].max_retry_duration
    min_backoff        = local.durations[each.key].min_backoff
    max_backoff        = local.durations[each.key].max_backoff
    max_doublings      = each.value.max_doublings
  }

  dynamic "stackdriver_logging_config" {
    for_each = each.value.log_sampling_ratio > 0 ? [each.value.log_sampling_ratio] : []
    content {
      sampling_ratio = stackdriver_logging_config.value
    }
  }
}
