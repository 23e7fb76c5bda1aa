terraform {
  # Terraform 1.11 introduced write-only arguments, which keep the signing keys out of the state.
  required_version = ">= 1.11.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "6.50.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "3.7.2"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
