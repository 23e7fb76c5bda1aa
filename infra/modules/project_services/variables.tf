variable "project" {
  description = "Id of the project."
  type        = string
}

variable "services" {
  description = "APIs to enable, such as cloudtasks.googleapis.com."
  type        = set(string)
}
