#pragma once
// Files that lie, each with the words that its error message must have. Every case is a small valid
// file or folder with one thing changed.

#include <string>
#include <utility>
#include <vector>

namespace unicorn::malformed {

/// What notices the lie at the latest.
enum class Kind {
    container,   // reading the GGUF file: `unicorn inspect` and everything else
    vocabulary,  // reading its vocabulary: `unicorn tokenize`
    model,       // using the file as a model: `unicorn run`
    folder,      // converting the Hugging Face folder: `unicorn convert`
};

struct Case {
    std::string name;  // a folder's name, too
    Kind kind = Kind::container;
    std::vector<std::pair<std::string, std::string>>
        files;            // name, bytes; a GGUF case opens the first
    std::string message;  // part of the message
};

std::vector<Case> gguf_cases();         // the container
std::vector<Case> model_cases();        // vocabulary, metadata and tensors of a model
std::vector<Case> safetensors_cases();  // with index.json
std::vector<Case> folder_cases();       // config.json and the vocabulary files
std::vector<Case> all_cases();

/// Writes the files of `malformed` into `folder`, which must exist, and returns the path to open.
std::string write_case(const Case& malformed, const std::string& folder);

}  // namespace unicorn::malformed
