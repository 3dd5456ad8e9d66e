"""What turns feedback into a gradient: one module a loss."""
