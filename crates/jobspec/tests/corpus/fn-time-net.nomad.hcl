job "fn-time-net" {
  meta = {
    f00 = jsonencode(formatdate("YYYY-MM-DD", "2024-02-29T12:00:00Z"))
    f01 = jsonencode(formatdate("EEE, DD MMM YYYY hh:mm:ss ZZZ", "2024-02-29T12:00:00Z"))
    f02 = jsonencode(formatdate("h:mm aa", "2024-02-29T15:04:05Z"))
    f03 = jsonencode(timeadd("2024-02-28T23:30:00Z", "45m"))
    f04 = jsonencode(timeadd("2024-03-01T00:00:00Z", "-24h"))
    f05 = jsonencode(cidrhost("192.168.1.0/24", 5))
    f06 = jsonencode(cidrnetmask("172.16.0.0/12"))
    f07 = jsonencode(cidrsubnet("172.16.0.0/12", 4, 2))
    f08 = jsonencode(cidrsubnet("fd00::/8", 8, 1))
    f09 = jsonencode(cidrsubnets("10.1.0.0/16", 4, 4, 8))
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
