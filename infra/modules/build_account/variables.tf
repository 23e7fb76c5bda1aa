variable "project" {
  description = "Id of the project."
  type        = string
}

variable "code_bucket" {
  description = "Cloud Storage bucket to which a deploy uploads the app."
  type        = string
}
