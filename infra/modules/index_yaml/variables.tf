variable "files" {
  description = "index.yaml files, of which each may be empty."
  type        = set(string)
}
