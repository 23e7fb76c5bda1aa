output "email" {
  description = "E-mail address of the account."
  value       = google_service_account.this.email
}
