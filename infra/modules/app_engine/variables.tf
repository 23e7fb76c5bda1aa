variable "project" {
  description = "Id of the project."
  type        = string
}

variable "location" {
  description = "Where the app is, in App Engine's words. It can never move."
  type        = string
}
