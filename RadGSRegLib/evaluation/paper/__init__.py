"""Tables 1 and 2 of the paper for our methods and their rivals, on cases whose truth is known."""
