# Two keys from the start: the first signs, the second will. When its turn comes, everybody verifies it already.
# Ephemeral values and write-only arguments are neither in a plan nor in the state. Each run makes new values, and
# secret_data_wo_version decides whether they are written.
ephemeral "random_password" "key" {
  count = 2

  length  = 43 # 256 bits
  special = false
}

resource "google_secret_manager_secret" "this" {
  project   = var.project
  secret_id = var.secret_id

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "this" {
  secret = google_secret_manager_secret.this.id

  secret_data_wo = join(",", [
    for index, key in ephemeral.random_password.key : "g${var.generation}-${index + 1}:${key.result}"
  ])
  secret_data_wo_version = var.generation

  lifecycle {
    create_before_destroy = true
    ignore_changes        = [enabled] # a rotated version may be disabled; destroyed, it would be made again
  }
}
