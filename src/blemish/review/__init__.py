"""A page in the browser where a person looks at ranked images and says which are good and which are bad."""
