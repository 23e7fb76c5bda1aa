variable "project" {
  description = "Id of the project."
  type        = string
}

variable "location" {
  description = "Where the queues are."
  type        = string
}

variable "queues" {
  description = "Queues by name. Durations are in seconds."
  type = map(object({
    max_dispatches_per_second  = number
    max_concurrent_dispatches  = number
    max_attempts               = number
    max_retry_duration_seconds = number
    min_backoff_seconds        = number
    max_backoff_seconds        = number
    max_doublings              = number
    log_sampling_ratio         = number
  }))
}
