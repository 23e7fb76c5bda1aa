output "names" {
  description = "Short names of the queues."
  value       = sort(keys(google_cloud_tasks_queue.this))
}
