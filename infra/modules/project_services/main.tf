resource "google_project_service" "this" {
  for_each = var.services

  project = var.project
  service = each.value

  # Others may use the API as well: a destroy takes nothing away from them.
  disable_on_destroy = false
}
