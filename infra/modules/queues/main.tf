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
    max_retry_duration = "${each.value.max_retry_duration_seconds}s"
    min_backoff        = "${each.value.min_backoff_seconds}s"
    max_backoff        = "${each.value.max_backoff_seconds}s"
    max_doublings      = each.value.max_doublings
  }

  dynamic "stackdriver_logging_config" {
    for_each = each.value.log_sampling_ratio > 0 ? [each.value.log_sampling_ratio] : []
    content {
      sampling_ratio = stackdriver_logging_config.value
    }
  }
}
