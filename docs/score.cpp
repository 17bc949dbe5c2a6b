// Scores one image with what `blemish export` left, without Python: ONNX Runtime alone.
//
//   g++ -std=c++17 score.cpp -I$ONNXRUNTIME/include -L$ONNXRUNTIME/lib -lonnxruntime -o score
//   ./score line/model.onnx part.ppm
//
// ONNXRUNTIME is an unpacked onnxruntime-linux-x64-*.tgz of github.com/microsoft/onnxruntime/releases. The image is a
// binary PPM (P6, 8 bits) of the size that the model takes, so that no library for images is needed here; anything that
// gives RGB bytes, row by row, does as well.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height x width x 3
};

Picture read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  Picture picture;
  int levels = 0;
  file >> kind >> picture.width >> picture.height >> levels;
  file.get();  // the one blank before the pixels
  if (!file || kind != "P6" || levels != 255 || picture.width <= 0 || picture.height <= 0)
    throw std::runtime_error("'" + path + "' is no binary PPM (P6) of 8 bits without comments");
  picture.rgb.resize(picture.width * picture.height * 3);
  file.read(reinterpret_cast<char*>(picture.rgb.data()), picture.rgb.size());
  if (!file) throw std::runtime_error("'" + path + "' is cut short");
  return picture;
}

std::string metadata_of(const Ort::Session& session, const char* name) {
  Ort::AllocatorWithDefaultOptions allocator;
  auto value = session.GetModelMetadata().LookupCustomMetadataMapAllocated(name, allocator);
  return value ? value.get() : "?";
}

int main(int count, char** words) {
  if (count != 3) {
    std::cerr << "usage: score model.onnx image.ppm\n";
    return 2;
  }
  try {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "blemish");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
#ifdef _WIN32
    const std::wstring path(words[1], words[1] + std::string(words[1]).size());
#else
    const std::string path(words[1]);
#endif
    Ort::Session session(env, path.c_str(), options);

    // (batch, height, width, 3) uint8; the batch is free.
    const std::vector<int64_t> wanted = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    Picture picture = read_ppm(words[2]);
    if (picture.height != wanted.at(1) || picture.width != wanted.at(2))
      throw std::runtime_error("the image has " + std::to_string(picture.width) + "x" +
                               std::to_string(picture.height) + " pixels, the model takes " +
                               std::to_string(wanted.at(2)) + "x" + std::to_string(wanted.at(1)));

    const std::array<int64_t, 4> shape{1, picture.height, picture.width, 3};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::Value images = Ort::Value::CreateTensor<uint8_t>(memory, picture.rgb.data(), picture.rgb.size(), shape.data(),
                                                          shape.size());
    const char* inputs[] = {"images"};
    const char* outputs[] = {"score", "flagged", "map"};
    auto found = session.Run(Ort::RunOptions{nullptr}, inputs, &images, 1, outputs, 3);

    const float score = found[0].GetTensorData<float>()[0];
    const bool flagged = found[1].GetTensorData<bool>()[0];
    const std::vector<int64_t> grid = found[2].GetTensorTypeAndShapeInfo().GetShape();  // 1, rows, columns
    const float* map = found[2].GetTensorData<float>();
    int64_t worst = 0;
    for (int64_t at = 1; at < grid[1] * grid[2]; ++at)
      if (map[at] > map[worst]) worst = at;

    std::cout << score << (flagged ? " flagged" : " good") << ", threshold " << metadata_of(session, "threshold")
              << ", most anomalous near (" << (worst % grid[2] + 0.5) / grid[2] * picture.width << ", "
              << (worst / grid[2] + 0.5) / grid[1] * picture.height << ")\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "score: " << error.what() << "\n";
    return 1;
  }
}
