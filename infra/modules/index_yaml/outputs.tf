output "indexes" {
  description = "The composite indexes, by a name that says what each has: two apps that declare the same get one."
  value       = { for name, same in local.by_name : name => same[0] }
}
