variable "project" {
  description = "Id of the project."
  type        = string
}

variable "emails" {
  description = "Who is told."
  type        = set(string)
}
