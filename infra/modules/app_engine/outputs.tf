output "default_hostname" {
  description = "Where the app's default service is served, such as my-project.uc.r.appspot.com."
  value       = google_app_engine_application.this.default_hostname
}

output "code_bucket" {
  description = "Cloud Storage bucket to which a deploy uploads the app."
  value       = google_app_engine_application.this.code_bucket
}
