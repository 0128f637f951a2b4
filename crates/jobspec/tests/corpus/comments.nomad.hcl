# a comment
// another
/* a
   block */
job "comments" { # behind
  group "g" {    // behind
    /* before */ task "t" {
      driver = "exec" # driver
      config {
        command = "/bin/true" /* in the line */
      }
    }
  }
}
