variable "project" {
  description = "Id of the project."
  type        = string
}

variable "secret_id" {
  description = "Short name of the secret."
  type        = string
}

variable "generation" {
  description = "Another number makes other keys."
  type        = number
}
