output "names" {
  description = "Short names of the queues."
  value       = sort(keys(google_cloud_tasks_queue.this))
}

output "ids" {
  description = "Full names of the queues, by short name."
  value       = { for name, queue in google_cloud_tasks_queue.this : name => queue.id }
}
