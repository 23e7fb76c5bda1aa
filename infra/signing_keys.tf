# The secret starts with two keys: the first signs tasks, the second becomes the signer at the next rotation. By then
# every instance can verify it.
#
# Terraform keeps ephemeral values and write-only arguments out of plan and state. Every run generates new values; they
# are written only when secret_data_wo_version changes.
ephemeral "random_password" "signing_key" {
  count = 2

  length  = 43 # at least 256 bits
  special = false
}

resource "google_secret_manager_secret" "signing_keys" {
  project   = var.project
  secret_id = local.signing_keys_secret_id

  replication {
    auto {}
  }

  depends_on = [google_project_service.this]
}

resource "google_secret_manager_secret_version" "signing_keys" {
  secret = google_secret_manager_secret.signing_keys.id

  secret_data_wo = join(",", [
    for index, key in ephemeral.random_password.signing_key :
    "g${var.signing_keys_generation}-${index + 1}:${key.result}"
  ])
  secret_data_wo_version = var.signing_keys_generation

  lifecycle {
    create_before_destroy = true
    ignore_changes        = [enabled] # after a rotation it may be disabled, but never destroyed: Terraform would make it again
  }
}
