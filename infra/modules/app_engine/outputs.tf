output "default_hostname" {
  description = "Where the app's default service is served, such as my-project.uc.r.appspot.com."
  value       = google_app_engine_application.this.default_hostname
}
