variable "project" {
  description = "Id of the project."
  type        = string
}

variable "region" {
  description = "Where everything is."
  type        = string
}

variable "services" {
  description = "App Engine services."
  type        = set(string)
}
