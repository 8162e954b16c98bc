"""What the book's pages say of a run and of a published study, written while the book is staged."""
