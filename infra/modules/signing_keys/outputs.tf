output "secret_id" {
  description = "Full name of the secret, once it has a version."
  value       = google_secret_manager_secret.this.id

  depends_on = [google_secret_manager_secret_version.this]
}

output "secret_name" {
  description = "Short name of the secret."
  value       = google_secret_manager_secret.this.secret_id
}
